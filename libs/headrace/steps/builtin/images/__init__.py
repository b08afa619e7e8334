"""From the image files of strangers to pixels, in bounded memory."""
