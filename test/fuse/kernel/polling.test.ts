import { expect } from 'chai';
import { Polling } from '../../../src/fuse/kernel/polling.js';

/** Requests that come so many microseconds after the last was answered; looking takes one, answering ten. */
class Requests {
  private time = 0;
  private due = 0;
  private looks = 0;
  private readonly polling = new Polling({
    ready: () => {
      this.looks += 1;
      this.time += 1;
      return this.time >= this.due;
    },
    now: () => this.time,
  });

  /** How often it was looked for each of these, in turn. */
  after(gaps: readonly number[], bytes = 4096): readonly number[] {
    return gaps.map((gap) => {
      this.due = this.time + gap;
      this.looks = 0;
      this.polling.wait(bytes);
      this.time = Math.max(this.time, this.due);
      this.polling.received();
      this.time += 10;
      return this.looks;
    });
  }
}

describe('waiting awake for requests', () => {
  it('is done from the second on where one comes soon after the other', () => {
    expect(new Requests().after([50, 50, 50, 50])).to.deep.equal([0, 50, 50, 50]);
  });

  it('ends with the first that is late, after a tenth of a millisecond', () => {
    expect(new Requests().after([50, 50, 5000, 5000, 5000, 50, 50])).to.deep.equal([0, 50, 100, 0, 0, 0, 50]);
  });

  it('is not done in a crowd, of which some are late', () => {
    const requests = new Requests();
    requests.after(new Array<number>(16).fill(0));
    expect(requests.after([0, 0, 40, 0, 0, 0, 0, 40, 0, 0])).to.deep.equal(new Array<number>(10).fill(0));
  });

  it('is done again when the crowd has gone', () => {
    const requests = new Requests();
    requests.after(new Array<number>(16).fill(0));
    expect(requests.after([50, 50, 50, 50, 50]).slice(-2)).to.deep.equal([50, 50]);
  });

  it('is not done after requests that move much', () => {
    expect(new Requests().after([50, 50, 50], 1024 * 1024)).to.deep.equal([0, 0, 0]);
  });
});
