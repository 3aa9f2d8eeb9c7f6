-- The models that an account serves, as its vendor calls them, parted by blanks; a name that ends with * stands for all that
-- begin so. Without, as far as a model's name tells who makes it.
ALTER TABLE account_share ADD COLUMN models TEXT CHECK (length(models) > 0);
