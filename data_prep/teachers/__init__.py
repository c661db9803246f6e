"""Teachers of the early alignment: what picture and sound have in common, as one vector each."""
