"""The network: backbone → dynamic graph convolutional modules → PIF and PAF heads."""
