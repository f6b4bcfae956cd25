"""What follows from several seeds and many users, and what does not."""
