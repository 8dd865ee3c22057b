-- Who is left out of the live delivery, as codec bytes; NULL for nobody.
ALTER TABLE messages ADD COLUMN left_out BLOB;
