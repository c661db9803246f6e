"""What is said in a clip: transcripts that exist, and Whisper where there are none."""
