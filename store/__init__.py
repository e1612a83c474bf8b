"""The embedding store: keeps rows in HDF5 and proves they are intact (numpy and h5py only)."""
