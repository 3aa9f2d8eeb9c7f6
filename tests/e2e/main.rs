//! The promises of the product, one module each, kept from the outside.

mod architecture;
