"""Which rows may be used: their age and source; and on-demand features worked out from them."""
