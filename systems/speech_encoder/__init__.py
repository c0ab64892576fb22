"""A small speech encoder whose frames tell phones apart: what stands in for HuBERT where its weights cannot be had."""
