-- What hardly any call has: counts by modality, cache writes by lifetime, tool calls, another service tier than the
-- default, flags. One JSON object; NULL for a plain call.
ALTER TABLE usage ADD COLUMN detail TEXT;
