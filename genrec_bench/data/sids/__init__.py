"""Semantic IDs made from item vectors: quantized, told apart where they collide, and judged.

``sid_recipe`` says what can be asked for; ``methods`` quantizes with ``rq_kmeans``, ``balanced`` or
``rq_vae``; ``collisions`` tells apart the items that share a SID; ``sid_quality`` measures SIDs
before anything is trained on them, and ``quality_figure`` draws it. ``build`` does all of this, and
``sid_store`` keeps the result.

All of it is computed on the CPU, on one thread and from seeds. SIDs are part of a track: a sum in
another order could move an item to another code, and the runs on it to another track.
"""
