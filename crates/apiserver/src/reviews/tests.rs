//! What is asked in reviews and what their answers mean.
