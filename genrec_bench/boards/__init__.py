"""Boards: from records to tables, pages and the check that nothing on them was altered."""
