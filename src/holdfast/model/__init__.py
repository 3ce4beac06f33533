"""Loading, LoRA, packing, packed attention, sharding, hidden states, log-probabilities, blending."""
