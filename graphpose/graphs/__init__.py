"""Keypoint graphs: statistics (Eq. 5), dense adjacencies (Eq. 6–7), PyG ``Data`` and transforms, where to draw them."""
