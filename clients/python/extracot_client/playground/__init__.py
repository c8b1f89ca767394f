"""The playground: a page in the browser to ask, compare and add up."""
