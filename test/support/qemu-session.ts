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
    const session = new QemuSession(child);
    // It reads commands only once the image is open.
    child.stdin.write('length\n');
    await new Promise<void>((resolve, reject) => {
      let output = '';
      const heard = (data: Buffer): void => {
        output += data.toString();
        if (/^(?:qemu-io> )?[\d.]+ [KMG]?i?B|bytes$/m.test(output)) resolve();
      };
      child.stdout.on('data', heard);
      child.stderr.on('data', heard);
      child.once('exit', () => reject(new Error(output)));
    });
    return session;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin.end('quit\n');
    await ended;
  }
}
