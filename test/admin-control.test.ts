import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import test from 'node:test';
import { askSupervisor, ControlError, serveControl } from '../src/admin/control.ts';
import { temporaryFolder } from './support/program.ts';

test('a request gets its handler’s answer as JSON, over a socket for the owner only', async () => {
  await using folder = await temporaryFolder();
  const control = await serveControl(folder.path, {
    'GET /status': () => ({ pid: 7 }),
    'POST /refresh': async (parameters) => ({ name: parameters.get('name') }),
  });
  assert.deepEqual(await askSupervisor(folder.path, 'GET', '/status'), { pid: 7 });
  assert.deepEqual(await askSupervisor(folder.path, 'POST', '/refresh?name=a%20b'), { name: 'a b' });
  assert.equal((await stat(folder.file('control.sock'))).mode & 0o777, 0o600);
  await control.close();
  await assert.rejects(askSupervisor(folder.path, 'GET', '/status'), { name: 'NotRunning', message: /nothing answers there/ });
});

test('refusals come back in the supervisor’s words; faults do not end it', async () => {
  await using folder = await temporaryFolder();
  const control = await serveControl(folder.path, {
    'GET /no': () => {
      throw new ControlError('no certificate is named a.test');
    },
    'GET /bug': () => {
      throw new TypeError('x is undefined');
    },
  });
  await assert.rejects(askSupervisor(folder.path, 'GET', '/no'), { name: 'ControlError', message: 'no certificate is named a.test' });
  await assert.rejects(askSupervisor(folder.path, 'GET', '/bug'), { message: 'x is undefined' });
  await assert.rejects(askSupervisor(folder.path, 'POST', '/no'), { message: 'unknown request POST /no' });
  await control.close();
});

test('the socket of a supervisor that died is replaced', async () => {
  await using folder = await temporaryFolder();
  await folder.put('control.sock', '');
  const control = await serveControl(folder.path, { 'GET /': () => 1 });
  assert.equal(await askSupervisor(folder.path, 'GET', '/'), 1);
  await control.close();
});
