"""Files: written whole, read strictly, locked, hashed; and the figures' common looks."""
