// Publishing mutations: subscribers get what the mutation was given.
export function request(ctx) {
  return { payload: ctx.args.session ?? ctx.args.station };
}

export function response(ctx) {
  return ctx.result;
}
