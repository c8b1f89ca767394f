"""What lies in deploy/: each part checked by the tool it is made for."""
