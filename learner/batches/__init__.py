"""From groups to packed arrays: advantages, denominators, dealing over ranks, packing."""
