"""From groups to packed arrays: what an update is made of, its plan, its samples, their packing."""
