"""Composite fields: their channel contract, the encoder (persons → targets) and the decoder (fields → poses)."""
