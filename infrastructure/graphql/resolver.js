import { util } from '@aws-appsync/utils';

const INTERNAL = 'something failed on our side; quote the correlation id when you report it';

/**
 * Passes a query or a mutation to the function of its data source: its field, its arguments and who asks.
 *
 * An API key has no identity. The function checks everything that directives of the schema cannot check. The
 * correlation id is that of the caller, or a new one.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  ctx.stash.correlationId = ctx.request.headers['x-correlation-id'] ?? util.autoId();
  return {
    operation: 'Invoke',
    payload: {
      field: ctx.info.fieldName,
      arguments: ctx.arguments,
      identity: ctx.identity ?? null,
      correlationId: ctx.stash.correlationId,
    },
  };
}

/**
 * Returns the data that the function answers, or raises its refusal as an error of GraphQL.
 *
 * The function answers `{data}`, or `{error: {type, message, …}}`. The rest of the error becomes errorInfo. If the
 * function could not be invoked, crashed or timed out, the caller learns nothing else.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function response(ctx) {
  if (ctx.error || !ctx.result) {
    util.error(INTERNAL, 'InternalError', null, { correlationId: ctx.stash.correlationId });
  }
  if (ctx.result.error) {
    const { type, message, ...info } = ctx.result.error;
    util.error(message, type, null, info);
  }
  return ctx.result.data;
}
