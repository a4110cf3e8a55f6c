"""A local page on which a person reads the responses of a run (`winnow rollouts`). It only reads, and needs no Ray."""
