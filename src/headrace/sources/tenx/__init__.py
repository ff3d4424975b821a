"""What Cell Ranger and its kin write: .h5 files and folders of matrix.mtx."""
