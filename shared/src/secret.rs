//! A value that must not be printed, logged or serialised. Knows no meaning of what it holds.

use zeroize::Zeroize;

/// Holds a secret until it is dropped, then overwrites it. Has no `Debug`, `Display`, `Serialize` or `Clone`.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes custody of `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that must use it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Secret<T> {
    /// A second copy, asked for by name so that it shows in review.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
