//! The tunnel to the hub: one connection kept alive, and `Link`, the handle a call is sent through.
