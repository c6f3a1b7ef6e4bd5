import { extensions, util } from '@aws-appsync/utils';

export function request(ctx) {
  return { payload: null };
}

export function response(ctx) {
  switch (ctx.info.fieldName) {
    case 'identity':
      return ctx.identity;
    case 'refused':
      return util.error('The port is taken.', 'ConflictError', { port: 1 }, { correlationId: 'c-1' });
    case 'echo':
      return { ...ctx.args, jsonType: typeof ctx.args.json };
    case 'wrongTime':
      return 'yesterday';
    case 'filter':
      extensions.setSubscriptionFilter({ filterGroup: [] });
      return null;
    default:
      return 'seen';
  }
}
