"""Networks quantised to int8 with OpenVINO: quantising, the folder they are kept in, loading."""
