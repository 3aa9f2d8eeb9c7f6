//! What calls used, summed up for the operator.
