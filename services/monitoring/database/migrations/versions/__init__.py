"""One file each; what has been released is never changed."""
