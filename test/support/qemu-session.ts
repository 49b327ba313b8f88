import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';

/** A qemu-io that keeps an image open until it is told to quit. */
export class QemuSession {
  private constructor(private readonly child: ChildProcessWithoutNullStreams) {}

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Resolves when the image is open; rejects with what qemu-io printed when it would not open. */
  static async open(...args: readonly string[]): Promise<QemuSession> {
    const child = spawn('qemu-io', args, { stdio: 'pipe' });
    // One that will not open the image does not read either.
    child.stdin.on('error', () => {});
    const session = new QemuSession(child);
    // It reads commands only once the image is open.
    await session.ask('length', /^(?:qemu-io> )*[\d.]+ (?:[KMG]iB|bytes)\n.*qemu-io> $/ms);
    return session;
  }

  /** Resolves when it has done these; rejects with what it printed when it ends instead. */
  async do(...commands: readonly string[]): Promise<void> {
    // One at a time: of several lines that come together it sees the first only.
    for (const command of commands) await this.ask(command, /qemu-io> $/);
  }

  private async ask(command: string, answer: RegExp): Promise<void> {
    const { child } = this;
    await new Promise<void>((resolve, reject) => {
      let output = '';
      const heard = (data: Buffer): void => {
        output += data.toString();
        if (answer.test(output)) done(resolve);
      };
      const ended = (): void => done(() => reject(new Error(output)));
      const done = (settle: () => void): void => {
        child.stdout.off('data', heard);
        child.stderr.off('data', heard);
        child.off('exit', ended);
        settle();
      };
      child.stdout.on('data', heard);
      child.stderr.on('data', heard);
      child.once('exit', ended);
      child.stdin.write(`${command}\n`);
    });
  }

  /** Ends it as a crash does. */
  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin.end('quit\n');
    await ended;
  }
}
