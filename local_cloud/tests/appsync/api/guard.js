import { extensions, util } from '@aws-appsync/utils';

// Admins hear of all sessions, users of their own.
export function request(ctx) {
  return { payload: null };
}

export function response(ctx) {
  const { identity, args } = ctx;
  if (!identity.sub || (identity.groups ?? []).includes('ADMIN')) {
    return null;
  }
  if (args.userId && args.userId !== identity.sub) {
    util.error('Only your own sessions.', 'ForbiddenError', null, { correlationId: 'c-2' });
  }
  const filter = { userId: { eq: identity.sub } };
  if (args.sessionId) {
    filter.sessionId = { eq: args.sessionId };
  }
  extensions.setSubscriptionFilter(util.transform.toSubscriptionFilter(filter));
  return null;
}
