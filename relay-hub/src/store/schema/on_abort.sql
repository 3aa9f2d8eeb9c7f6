-- What becomes of a call whose client leaves: `cut` cancels the vendor's call, `drain` reads on to its usage.
ALTER TABLE tenant ADD COLUMN on_abort TEXT NOT NULL DEFAULT 'cut' CHECK (on_abort IN ('cut', 'drain'));
