"""Keypoint graphs: distance statistics (Eq. 5), adjacencies (Eq. 6–7), PyG ``Data`` and where to draw them."""
