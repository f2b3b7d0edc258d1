.PHONY: repro test verify
repro test verify:
	@python3 dev.py $@
