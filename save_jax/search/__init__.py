"""Search of one's own videos by what is seen, heard and said: folders in, moments out. Extra `search`."""
