"""One file or folder for each solver."""
