"""Semantic IDs made from item vectors: quantized, told apart where they collide, and judged.

``recipe`` is what can be asked for, ``methods`` answers it with ``rq_kmeans``, ``balanced`` or
``rq_vae``; ``collisions`` tells apart the items that share a SID, ``quality`` says what SIDs are
worth before anything is trained on them, and ``quality_figure`` shows it.

All of it is computed on the CPU, on one thread and from seeds. SIDs are part of a track: a sum in
another order could move an item to another code, and the runs on it to another track.
"""
