import { extensions } from '@aws-appsync/utils';

// Sets the filter that the client asks for, as no API should.
export function request(ctx) {
  if (ctx.info.fieldName === 'filteredTooEarly') {
    extensions.setSubscriptionFilter({ filterGroup: [] });
  }
  return { payload: null };
}

export function response(ctx) {
  if (ctx.info.fieldName === 'invalidated') {
    extensions.setSubscriptionInvalidationFilter({ filterGroup: [] });
  } else if (ctx.args.filter) {
    extensions.setSubscriptionFilter(ctx.args.filter);
  }
  return null;
}
