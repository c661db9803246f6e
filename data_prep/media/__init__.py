"""One media file: its packets, frames and sound, as the models read them."""
