// Timers that run when the test says so. (node:test has some, but in Node 20 clearing a timer
// twice, which is allowed, takes another one away.)

export class FakeTimers {
  #now = 0;
  #pending = new Map(); // timer -> {at, run}
  #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

  install() {
    globalThis.setTimeout = (run, ms = 0, ...args) => {
      const timer = { unref: () => timer };
      this.#pending.set(timer, { at: this.#now + ms, run: () => run(...args) });
      return timer;
    };
    globalThis.clearTimeout = (timer) => {
      if (!this.#pending.delete(timer)) this.#real.clearTimeout(timer);
    };
  }

  uninstall() {
    Object.assign(globalThis, this.#real);
  }

  tick = (ms) => {
    const end = this.#now + ms;
    for (;;) {
      const [timer, { at, run } = {}] = [...this.#pending].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (timer === undefined || at > end) break;
      this.#pending.delete(timer);
      this.#now = at;
      run();
    }
    this.#now = end;
  };
}
