import { util } from '@aws-appsync/utils';

const INTERNAL = 'something failed on our side; quote the correlation id when you report it';

/**
 * Passes a query or a mutation to the function of its data source: its field, its arguments and who asks.
 *
 * An API key has no identity. The function checks everything that directives of the schema cannot check.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  return {
    operation: 'Invoke',
    payload: {
      field: ctx.info.fieldName,
      arguments: ctx.arguments,
      identity: ctx.identity ?? null,
      correlationId: correlationId(ctx),
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
    util.error(INTERNAL, 'InternalError', null, { correlationId: correlationId(ctx) });
  }
  if (ctx.result.error) {
    const { type, message, ...info } = ctx.result.error;
    util.error(message, type, null, info);
  }
  return ctx.result.data;
}

/**
 * Returns the correlation id that the caller has given, or null. The function makes one if there is none.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
function correlationId(ctx) {
  return ctx.request.headers['x-correlation-id'] ?? null;
}
