# The two everyday targets, run and test, do all their own set-up. See README.md.
NODE ?= node
TSC := node_modules/.bin/tsc
IMGFS := $(NODE) dist/src/imgfs.cjs
SOURCES := $(shell find src test bench scripts -name '*.ts' -o -name '*.cts' 2>/dev/null)
PREFIX ?= /usr/local

.PHONY: run test build check bench fuzz readme install clean

run: build
	@sh scripts/setup.sh run
	@$(NODE) --enable-source-maps dist/scripts/demo.js $(if $(IMAGE),"$(IMAGE)") $(if $(MNT),"$(MNT)")

test: build
	@sh scripts/setup.sh test
	@$(MAKE) --no-print-directory check
	@$(NODE) --enable-source-maps dist/test/run.js $(SUITES)

build: dist/.built

check: node_modules/.package-lock.json
	@node_modules/.bin/biome ci --error-on-warnings .
	@$(TSC) -p tsconfig.json --noEmit

# BENCH="writes" runs one of the groups reads, writes, tables, formats, encrypted, convert and appliances (or single
# measures) alone.
bench: build
	@sh scripts/setup.sh bench
	@$(NODE) --enable-source-maps dist/bench/run.js $(if $(BENCH),"$(BENCH)")

fuzz: build
	@$(NODE) --enable-source-maps dist/test/fuzz/run.js

# The long run: power cuts, then every fault, then a mounted process killed 500 times. IMGFS_CRASH_STATES (100000) and
# IMGFS_CRASH_SECONDS bound the first, IMGFS_CRASH_ONLY='workload@state' repeats one of it.
crash: build
	@sh scripts/setup.sh test
	@$(NODE) --enable-source-maps dist/test/crash/run.js
	@IMGFS_FAULT_COMPLETE=1 IMGFS_KILLS=500 $(NODE) --enable-source-maps dist/test/run.js faults kills

# After a change to the formats.
readme: build
	@$(NODE) dist/scripts/readme.js

# The program as a package of its own beneath PREFIX, with the names mount(8) looks for.
install: build
	install -d "$(DESTDIR)$(PREFIX)/lib/imgfs" "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)/sbin"
	cp -r package.json package-lock.json LICENSE README.md native-notes "$(DESTDIR)$(PREFIX)/lib/imgfs/"
	install -d "$(DESTDIR)$(PREFIX)/lib/imgfs/dist"
	cp -r dist/src "$(DESTDIR)$(PREFIX)/lib/imgfs/dist/"
	cd "$(DESTDIR)$(PREFIX)/lib/imgfs" && npm ci --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error
	chmod 755 "$(DESTDIR)$(PREFIX)/lib/imgfs/dist/src/imgfs.cjs"
	ln -sf ../lib/imgfs/dist/src/imgfs.cjs "$(DESTDIR)$(PREFIX)/bin/imgfs"
	ln -sf "$(PREFIX)/bin/imgfs" "$(DESTDIR)/sbin/mount.imgfs"

clean:
	rm -rf dist node_modules

node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

dist/.built: node_modules/.package-lock.json tsconfig.json $(SOURCES)
	@rm -rf dist
	@$(TSC) -p tsconfig.json
	@$(NODE) dist/scripts/bundle.js
	@chmod 755 dist/src/imgfs.cjs
	@touch $@
