"""The compiled steps from fields to poses, in the order of :mod:`~graphpose.fields.decoding.grouping`."""
