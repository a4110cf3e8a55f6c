"""The receiving side of weight transfer: how tensors are cut into buckets, and winnow's gloo back end in vLLM."""
