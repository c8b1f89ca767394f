"""What crosses the packages: the training's stages against the real server."""
