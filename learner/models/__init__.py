"""The torch modules: the policy, the critic, and tiny models made from nothing."""
