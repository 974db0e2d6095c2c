"""Other edges than the data's own, made once when a graph is loaded: a file a family, a function a method."""
