"""Keypoint graphs: statistics (Eq. 5), dense adjacencies (Eq. 6–7), PyG ``Data``, transforms and data set, drawing."""
