"""How drawn clips are altered, by torchvision; imported only where something is."""
