"""Data sets: annotations, images, the demo renderer, mixes, transforms, loaders and what checks them."""
